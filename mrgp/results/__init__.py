"""A fit: its parameters, their uncertainty, and the forms in which it is kept and shown."""
