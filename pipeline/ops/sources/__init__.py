"""Where data comes from: files of every format, and what is made up."""
