"""The store in etcd, which several control planes share: any client may be on any of them.

Instances and revisions lie as every etcd registry has them (`meshsdk.discovery.entries`), so that SDKs that read etcd
themselves see the same ones.
"""
