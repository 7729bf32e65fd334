"""Training against the chip: strategies, mixed precision, and what training loops need around them."""
