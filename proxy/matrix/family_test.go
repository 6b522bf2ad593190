package matrix

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// family is an IP family. Everything here is written for IPv4, and every host
// has both: 10.244.1.3 is fd00::10:244:1:3, and 10.244.1.0/24 fd00::10:244:1:0/112.
type family corev1.IPFamily

const (
	ipv4 = family(corev1.IPv4Protocol)
	ipv6 = family(corev1.IPv6Protocol)
)

var (
	address = regexp.MustCompile(`\b(\d+)\.(\d+)\.(\d+)\.(\d+)\b(/\d+|:\d+)?`)
	lengths = map[string]string{"/12": "/96", "/16": "/96", "/24": "/112", "/32": "/128"}
)

// of is a text with the family's addresses in it.
func (f family) of(text string) string {
	if f == ipv4 {
		return text
	}
	return address.ReplaceAllStringFunc(text, func(found string) string {
		parts := address.FindStringSubmatch(found)
		host, behind := fmt.Sprintf("fd00::%s:%s:%s:%s", parts[1], parts[2], parts[3], parts[4]), parts[5]
		if strings.HasPrefix(found, "127.0.0.1") {
			host = "::1"
		}
		switch {
		case strings.HasPrefix(behind, ":"):
			return "[" + host + "]" + behind
		case behind != "":
			return host + lengths[behind]
		}
		return host
	})
}

// order is one with the family's addresses.
func (f family) order(o order) (order, error) {
	data, err := json.Marshal(o)
	if err != nil || f == ipv4 {
		return o, err
	}
	text := strings.ReplaceAll(f.of(string(data)), string(ipv4), string(f))
	var in6 order
	return in6, json.Unmarshal([]byte(text), &in6)
}

// families are those a mode carries.
func families(mode string) []family {
	if mode == "userspace" {
		return []family{ipv4}
	}
	return []family{ipv4, ipv6}
}
