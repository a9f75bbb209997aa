"""Answers as DICOM objects beside their image: report, masks, graphics, picture."""
