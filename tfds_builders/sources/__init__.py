"""What releases and folders hold besides pixels: files, tables, boxes, splits."""
