"""The xDS client: one stream per list of servers, resources decoded to `meshsdk.model`, targets resolved from them."""
