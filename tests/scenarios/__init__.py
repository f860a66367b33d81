"""Stories of every service, and runs of many clients whose history is judged."""
