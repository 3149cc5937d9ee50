"""What people and programs read. One small file a format; none of them computes."""
