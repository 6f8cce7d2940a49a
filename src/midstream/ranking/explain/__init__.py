"""A request run again comes in, reasons for each item of its slate go out."""
