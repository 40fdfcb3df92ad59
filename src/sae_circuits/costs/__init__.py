"""What calls cost before they run: bytes at the peak, and floating-point operations."""
