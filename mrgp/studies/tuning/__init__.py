"""Search for the settings of a model that is trained."""
