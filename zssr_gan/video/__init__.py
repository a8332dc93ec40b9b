"""Video as it was recorded: frames with their own times, stored planes, and folders of stills."""
