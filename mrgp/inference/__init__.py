"""Methods that infer a model's parameters, whichever model it is."""
