"""Training of the policy that ships with the package, on many small trainings at once."""
