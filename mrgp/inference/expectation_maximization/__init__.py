"""Method "em": exact expectations of states, and updates in closed form."""
