package ipvs

import (
	"strings"
	"testing"
)

// TestParseSets: what ipset 7.17 prints, with a set of somebody else's.
func TestParseSets(t *testing.T) {
	const saved = `create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x6ff6d4fd
add KUBE-CLUSTER-IP 10.96.0.1,tcp:443
create theirs hash:ip family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x4e4d7c14
add theirs 10.1.1.1
create KUBE-NODE-PORT-TCP bitmap:port range 0-65535
add KUBE-NODE-PORT-TCP 30080
create KUBE-LOAD-BALANCER-SOURCE-CIDR hash:ip,port,net family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x93b8ee09
add KUBE-LOAD-BALANCER-SOURCE-CIDR 203.0.113.10,tcp:80,10.0.0.0/8
add KUBE-LOAD-BALANCER-SOURCE-CIDR 203.0.113.10,tcp:80,198.51.100.7
`
	const want = `add KUBE-CLUSTER-IP 10.96.0.1,tcp:443
add KUBE-LOAD-BALANCER-SOURCE-CIDR 203.0.113.10,tcp:80,10.0.0.0/8
add KUBE-LOAD-BALANCER-SOURCE-CIDR 203.0.113.10,tcp:80,198.51.100.7/32
add KUBE-NODE-PORT-TCP 30080
`
	if got := ipv4.save(ipv4.parseSets(saved)); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	// The other family's are somebody else's.
	const saved6 = `add KUBE-CLUSTER-IP 10.96.0.1,tcp:443
add KUBE-6-CLUSTER-IP fd00:10:96::1,tcp:443
add KUBE-6-LOAD-BALANCER-SOURCE-CID fd00:203:113::10,tcp:80,fd00:198:51:100::7
`
	const want6 = `add KUBE-6-CLUSTER-IP fd00:10:96::1,tcp:443
add KUBE-6-LOAD-BALANCER-SOURCE-CID fd00:203:113::10,tcp:80,fd00:198:51:100::7/128
`
	if got := ipv6.save(ipv6.parseSets(saved6)); got != want6 {
		t.Errorf("got:\n%s\nwant:\n%s", got, want6)
	}
}

// FuzzParseSets: whatever is read, what is written of it reads the same.
func FuzzParseSets(f *testing.F) {
	f.Add("add KUBE-CLUSTER-IP 10.96.0.1,tcp:443\ncreate KUBE-IPVS-IPS hash:ip family inet\n")
	f.Add("add KUBE-LOAD-BALANCER-SOURCE-CIDR 203.0.113.10,tcp:80,198.51.100.7")
	f.Add("add KUBE-CLUSTER-IP\n\nadd  x  y z")
	f.Fuzz(func(t *testing.T, saved string) {
		for _, own := range []family{ipv4, ipv6} {
			text := own.save(own.parseSets(saved))
			if again := own.save(own.parseSets(text)); again != text {
				t.Errorf("%q, read again: %q", text, again)
			}
			for line := range strings.Lines(text) {
				if len(strings.Fields(line)) != 3 {
					t.Errorf("not a command: %q", line)
				}
			}
		}
	})
}
