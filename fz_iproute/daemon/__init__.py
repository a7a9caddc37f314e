"""`watch`: stays in step with every change."""
