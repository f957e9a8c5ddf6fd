"""Study of who talks to whom: several trainings, and some where nobody talks."""
