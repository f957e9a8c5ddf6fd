"""Ways to infer a model's parameters; none knows which model it is."""
