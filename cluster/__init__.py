"""Where trials run beyond this process. The only door to ray."""
