"""SSH public keys made by ssh-keygen, whose private parts nobody has, with the fingerprints that it shows."""

KEYS = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICUXBX4wg5GNE/ok2MWnXSq2lJ5n7Y/znZd5HWAqg5a9 me@home-1",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIClC28lEjbQgdSTxUqWC4qXj81ZlT4Y5g2bdE/Kg4Wzr me@home-2",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIExY0tL+6fAgxvIDhmXRTH+xvo7VN/02u4YUq+Fl7TJ me@home-3",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKxofr5qmVkdVIGxPmbfYZa1xJqwIoltm8yozbD+gwy3 me@home-4",
)

MADE = {  # line, bits, fingerprint
    "ecdsa256": (
        (
            "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBFdVXIi+qfCj16COD4tsjRgty3P0ewHSlnrb"
            "hQTMonOf0VI/xh7uRKZKOx95a9Q5lKGN/koKLq20cD64Vjb+jzg= ecdsa 256"
        ),
        256,
        "SHA256:SMlIxakaAbT/LbtO4XeVeI4bHho6Xzj/r/jV/YBtMls",
    ),
    "ecdsa384": (
        (
            "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBEFfY4Z/JjfkMsqK3EwaXwmqAccYlgq1UexF"
            "YXpgJ/huY3OrDdwe1iGOwQ5XJRdsaGWc+8f/ai6FXHTa0C8Z0dZyljQIZGusxggJgwvS8jeH+uAfUiY+HNipFkeGPTrhgg== ecdsa 384"
        ),
        384,
        "SHA256:Quz8C6DBBddVS2QCLlP4HPRlwa0zaQES2AjVAV2iygM",
    ),
    "ecdsa521": (
        (
            "ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAH/jDQqGW8wUlCq15DlNup/S20RIwClAKq0"
            "C5E7tJodUPMs2ggB8kcy3DC3EuUmyr3afLfZZK1hPR37NSptL2RcsQEBykHU+zFbZWiwKGosymm6ZkUxvZj/oWJRzwk96y7/XyGSSZI92Yfb"
            "FO/rBwlvWwPltjCP6Xd1Ff1mzy/Exmv5rQ== ecdsa 521"
        ),
        521,
        "SHA256:hahPfIZdusV7mTnF8wRHk/NBRw7ATdkCbGw69mVc+28",
    ),
    "rsa2048": (
        (
            "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCtE5qgerdvHKU9wGfdc/LXihrRkM8LfQNvsEIxIXFWI3yfcJUfU1BTSCVAg1xKrOiJhcLt"
            "nXbhW8mpqaUwfCrNQS9W94l4qDmyGSXoSfl06rUz5SWLJTxauAwr0uAtB/RocJaUAQpFjQA01cwCo6hqA2d1o92EjlQCbIED1pDNYXr5xAsr"
            "ulfy0ShjqkY//6HwgqGvkdRObx+A1akX/46r4BOsA3v0FPjGBJN5AHVMJbWzdnuQnGkGzCoLFxKVVf457RVwEglbTo/zWzH7joIrtmyhlCAO"
            "z27FDFfkr2I3RKZkcuXSu84mGzg67aZck9XsJqph5MHQqjOVyLVHQwPx rsa 2048"
        ),
        2048,
        "SHA256:5vBcgb7lSdlAhfCL+wvc51+AVz98EorhlRJrtiZYjlg",
    ),
    "ed25519": (
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICUXBX4wg5GNE/ok2MWnXSq2lJ5n7Y/znZd5HWAqg5a9 me@home-1",
        256,
        "SHA256:YBO6ICS4e/VL3thDKofxNg+zkrLSkAoSd/c/072eJ7c",
    ),
}

WEAK = (
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDF9DqUwZSr+fJ1swvuAFdXEcLMtkRtdp0KvkF738iA9N0sDatbv1f7BZ1+6xJlIo5tqnjO"
    "pNKRzp36MPv9MIlc7jL8xW337AOStCZ2OlRPr5Hwlnq9O6cekuJUlA23YWz0IcCDgOucCw3C+DumV4K33Ga1IIeliwje4pCBJ+HoRw== rsa"
    " 1024"
)  # 1024 bits
