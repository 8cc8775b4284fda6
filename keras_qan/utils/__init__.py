"""Progress bars, checks of arguments and of the backend, deprecation: for every package."""
