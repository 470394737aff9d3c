"""What a process in the mesh says of itself, and what it would do: for people and tools, never on a call's way."""
