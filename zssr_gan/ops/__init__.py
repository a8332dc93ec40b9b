"""Work for a device, written for it where torch alone is slow, with plain torch elsewhere."""
