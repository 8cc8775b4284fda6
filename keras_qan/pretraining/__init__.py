"""How the policy that ships with the package is trained: on many small trainings at once."""
