"""Images in sets: where they come from, how they are split, and the store of what was made of them."""
