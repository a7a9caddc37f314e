def test_m(machine):
    m = machine
    print(m.routes("inet", "main"), m.routes("inet6", "main"), m.routes("inet"), m.routes("inet6"), m.ip("-d","link"), m.ip("rule"))
    assert not m.in_step()
    print(m.way("192.168.188.1"), m.reaches("192.168.188.1"), list(m.vpn.destinations()), m.reaches("fd00:188::1"), list(m.vpn.destinations()))
    m.fz("sync")
    print(m.way("192.168.188.1"), m.reaches("192.168.188.1"), list(m.vpn.destinations()), m.reaches("fd00:188::1"), list(m.vpn.destinations()))
    assert m.in_step()
    print(m.fz("status"))
    assert 0
