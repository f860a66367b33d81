"""Does a registry keep its promises? A suite that asks any server, from outside."""
