package gateway

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/valyala/fasthttp"
)

// client is the address that a request comes from: the peer, unless that is a trusted proxy. Then it is the last entry of
// X-Forwarded-For that is not a trusted proxy's: what stands before it is anybody's word. If there is no such entry, or
// one in the way is no address, it is the peer.
func (l *limiters) client(ctx *fasthttp.RequestCtx) netip.Addr {
	peer := peerOf(ctx)
	if len(l.proxies) == 0 || !l.trusted(peer) {
		return peer
	}
	heads := ctx.Request.Header.PeekAll("X-Forwarded-For")
	for i := len(heads) - 1; i >= 0; i-- {
		for rest, more := heads[i], true; more; {
			var entry []byte
			comma := bytes.LastIndexByte(rest, ',')
			entry, more = rest[comma+1:], comma >= 0
			rest = rest[:max(comma, 0)]
			addr, ok := parseAddress(entry)
			if !ok {
				return peer
			}
			if !l.trusted(addr) {
				return addr
			}
		}
	}
	return peer
}

func (l *limiters) trusted(a netip.Addr) bool {
	for _, p := range l.proxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func peerOf(ctx *fasthttp.RequestCtx) netip.Addr { return addressOf(ctx.RemoteAddr()) }

func addressOf(peer net.Addr) netip.Addr {
	tcp, ok := peer.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return plainAddress(tcp.AddrPort().Addr())
}

// parseAddress reads one entry of X-Forwarded-For: an address, with a port as some proxies write it.
func parseAddress(entry []byte) (netip.Addr, bool) {
	text := string(bytes.TrimSpace(entry))
	if a, err := netip.ParseAddr(text); err == nil {
		return plainAddress(a), true
	}
	ap, err := netip.ParseAddrPort(text)
	return plainAddress(ap.Addr()), err == nil
}

// plainAddress is a without a zone, and as IPv4 if it is one.
func plainAddress(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// addressKey is what the limit per address counts: an IPv4 address, or the /64 of an IPv6 address, which one customer has
// to himself. The /64s that would be mistaken for IPv4 addresses lie in 0000::/8, which is nobody's.
func addressKey(a netip.Addr) uint64 {
	b := a.As16()
	if a.Is4() {
		return uint64(binary.BigEndian.Uint32(b[12:]))
	}
	return binary.BigEndian.Uint64(b[:8])
}
