"""Channel façades: the request path (`stack`), connections (`pool`), and the grpc and grpc.aio surfaces over them."""
