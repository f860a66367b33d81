"""The commands of both programs, one in each file, imported when it is called."""
