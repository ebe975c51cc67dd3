"""The ways in: the tunnel, a public address, a ProxyCommand; by Fabric and by OpenSSH's own client, with the host key pinned."""

from ops.box import access


def test_proxy_command_is_split_without_a_shell():
    words = access.split_proxy_command("nc -X 5 %h %p '%r;rm' 100%%", "i-1", "ubuntu")
    assert words == ["nc", "-X", "5", "i-1", "22", "ubuntu;rm", "100%"]
