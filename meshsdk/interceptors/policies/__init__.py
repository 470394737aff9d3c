"""Policies of a call as generators: they yield what to do next and are sent what came of it. No I/O, no clock."""
