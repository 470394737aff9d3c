"""Programs whose server is not grpc: WSGI and ASGI applications under gunicorn and uvicorn, as instances."""
