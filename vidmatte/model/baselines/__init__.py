"""What IconMatting is compared with, behind the one interface; their weights are those of the networks' authors."""
