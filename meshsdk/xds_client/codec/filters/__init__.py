"""HTTP filters, protobuf -> `meshsdk.model.filters`: one module per concern, loaded when a mesh names its filter."""
