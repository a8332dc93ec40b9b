"""The page of `zssr-gan web`: cases as folders, a queue of commands, and the server that shows them."""
