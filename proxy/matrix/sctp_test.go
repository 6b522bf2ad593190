package matrix

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/podarium/podarium/internal/netns"
)

// SCTP is spoken by hand, for kernels that have no sockets of it: INIT asks, and
// INIT ACK answers, with the words in its cookie (RFC 9260 section 3.3).
const (
	chunkInit     = 1
	chunkInitAck  = 2
	cookie        = 7
	headerLength  = 12 // ports, tag, checksum
	initLength    = 20
	cookieAt      = headerLength + initLength
	minimalLength = headerLength + initLength
)

// ipSCTP is SCTP over an address's family, as package net calls it.
func ipSCTP(address netip.Addr) string {
	if address.Is4() {
		return "ip4:132"
	}
	return "ip6:132"
}

// serveSCTP starts the server of a host.
func serveSCTP(t *testing.T, path, who, ip string, port uint16) {
	t.Helper()
	var packets net.PacketConn
	err := netns.Do(path, func() (err error) {
		packets, err = net.ListenPacket(ipSCTP(netip.MustParseAddr(ip)), ip)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { packets.Close() })
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, client, err := packets.ReadFrom(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if question := buffer[:n]; err == nil && isChunk(question, chunkInit) && binary.BigEndian.Uint16(question[2:]) == port {
				from := &net.UDPAddr{IP: client.(*net.IPAddr).IP, Port: int(binary.BigEndian.Uint16(question))}
				tag := binary.BigEndian.Uint32(question[headerLength+4:])
				_, _ = packets.WriteTo(packet(port, uint16(from.Port), tag, chunkInitAck, answer(who, from)), client) // lost, as packets are
			}
		}
	}()
}

// askSCTP asks again every second, as askUDP does.
func askSCTP(ctx context.Context, path, address string) (string, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return "", err
	}
	conn, err := netns.Dial(ctx, path, ipSCTP(to.Addr()), to.Addr().String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	port, buffer := uint16(20000+rand.IntN(10000)), make([]byte, 1500)
	question := packet(port, to.Port(), 0, chunkInit, "")
	for {
		if _, err := conn.Write(question); err != nil && !errors.Is(err, syscall.EPERM) {
			return "", err
		}
		if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return "", err
		}
		n, _, err := conn.(*net.IPConn).ReadFromIP(buffer)
		for err == nil && (!isChunk(buffer[:n], chunkInitAck) || binary.BigEndian.Uint16(buffer[2:]) != port) {
			n, _, err = conn.(*net.IPConn).ReadFromIP(buffer) // for somebody else on this host
		}
		if err == nil {
			return words(buffer[:n])
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
			return "", err
		}
	}
}

func isChunk(packet []byte, kind byte) bool {
	return len(packet) >= minimalLength && packet[headerLength] == kind
}

// packet is one with a chunk, and a cookie when there are words.
func packet(from, to uint16, tag uint32, kind byte, words string) []byte {
	p := binary.BigEndian.AppendUint16(nil, from)
	p = binary.BigEndian.AppendUint16(p, to)
	p = binary.BigEndian.AppendUint32(p, tag)
	p = append(p, 0, 0, 0, 0, kind, 0)
	length := initLength
	if words != "" {
		length += 4 + len(words)
	}
	p = binary.BigEndian.AppendUint16(p, uint16(length))
	p = binary.BigEndian.AppendUint32(p, 1+rand.Uint32N(1<<31)) // our tag
	p = binary.BigEndian.AppendUint32(p, 65535)                 // window
	p = append(p, 0, 1, 0, 1)                                   // streams
	p = binary.BigEndian.AppendUint32(p, 1)                     // first TSN
	if words != "" {
		p = binary.BigEndian.AppendUint16(p, cookie)
		p = binary.BigEndian.AppendUint16(p, uint16(4+len(words)))
		p = append(p, words...)
		p = append(p, make([]byte, (4-len(words)%4)%4)...)
	}
	binary.LittleEndian.PutUint32(p[8:], crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)))
	return p
}

// words of the cookie.
func words(packet []byte) (string, error) {
	if len(packet) < cookieAt+4 || binary.BigEndian.Uint16(packet[cookieAt:]) != cookie {
		return "", fmt.Errorf("an answer without a cookie: %x", packet)
	}
	end := cookieAt + int(binary.BigEndian.Uint16(packet[cookieAt+2:]))
	if end > len(packet) {
		return "", fmt.Errorf("an answer cut off: %x", packet)
	}
	return string(packet[cookieAt+4 : end]), nil
}
