"""The admin interface: JSON over HTTP on loopback, and the client of it that `meshctl` uses."""
