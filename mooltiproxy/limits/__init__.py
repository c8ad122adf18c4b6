"""How much each key, address and model may use: admitted before, settled after; and places at targets that take few
requests at a time. What is counted in windows is in the store, what is going on now in this process."""
