package kubelet

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPodResolvConf(t *testing.T) {
	cluster := clusterDNS{[]string{"10.96.0.10"}, "cluster.local"}
	node := resolvConf{servers: []string{"192.168.56.1"}, searches: []string{"lan"}, options: []string{"edns0"}}
	five := "5"
	for _, test := range []struct {
		name string
		spec corev1.PodSpec
		want string
	}{
		{
			"cluster first",
			corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst},
			"search shop.svc.cluster.local svc.cluster.local cluster.local lan\nnameserver 10.96.0.10\noptions ndots:5\n",
		},
		{
			"cluster first in the host's network is the node's",
			corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, HostNetwork: true},
			"search lan\nnameserver 192.168.56.1\noptions edns0\n",
		},
		{
			"unless asked for",
			corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirstWithHostNet, HostNetwork: true},
			"search shop.svc.cluster.local svc.cluster.local cluster.local lan\nnameserver 10.96.0.10\noptions ndots:5\n",
		},
		{"default", corev1.PodSpec{DNSPolicy: corev1.DNSDefault}, "search lan\nnameserver 192.168.56.1\noptions edns0\n"},
		{
			"none, with a configuration of its own",
			corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: &corev1.PodDNSConfig{
				Nameservers: []string{"1.1.1.1"}, Searches: []string{"x"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: &five}, {Name: "rotate"}},
			}},
			"search x\nnameserver 1.1.1.1\noptions ndots:5 rotate\n",
		},
		{
			"additions replace options of the same name",
			corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, DNSConfig: &corev1.PodDNSConfig{Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: new("2")}}}},
			"search shop.svc.cluster.local svc.cluster.local cluster.local lan\nnameserver 10.96.0.10\noptions ndots:2\n",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: test.spec}
			if got := podResolvConf(pod, cluster, node).String(); got != test.want {
				t.Errorf("got:\n%swant:\n%s", got, test.want)
			}
		})
	}
}

func TestReadResolvConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	text := "# comment\nsearch old\nsearch a.b. .\nnameserver 10.0.0.1\nnameserver fe80::1\noptions timeout:1\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := "search a.b\nnameserver 10.0.0.1\nnameserver fe80::1\noptions timeout:1\n"
	if got := readResolvConf(path).String(); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestHostsFile(t *testing.T) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db-0"},
		Spec: corev1.PodSpec{
			Hostname: "db-0", Subdomain: "db",
			HostAliases: []corev1.HostAlias{{IP: "10.0.0.9", Hostnames: []string{"old", "older"}}},
		},
	}
	host, fqdn := podHostname(pod, "cluster.local")
	got := hostsFile([]string{"10.244.1.7"}, host, fqdn, pod.Spec.HostAliases)
	want := `# Kubernetes-managed hosts file.
127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::0	ip6-localnet
fe00::0	ip6-mcastprefix
fe00::1	ip6-allnodes
fe00::2	ip6-allrouters
10.244.1.7	db-0.db.shop.svc.cluster.local	db-0

# Entries added by HostAliases.
10.0.0.9	old	older
`
	if got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestResolvConfLimits(t *testing.T) {
	many := resolvConf{servers: []string{"10.96.0.10", "1.1.1.1", "2.2.2.2", "3.3.3.3"}}
	for i := range 34 {
		many.searches = append(many.searches, fmt.Sprintf("s%d.example.com", i))
	}
	kept, complaints := many.limited()
	if len(kept.servers) != 3 || len(kept.searches) != 32 {
		t.Errorf("%d servers and %d searches are left, want 3 and 32", len(kept.servers), len(kept.searches))
	}
	if len(complaints) != 2 ||
		complaints[0] != "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: 10.96.0.10 1.1.1.1 2.2.2.2" ||
		complaints[1] != "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "+strings.Join(kept.searches, " ") {
		t.Errorf("complaints: %q", complaints)
	}
	if _, complaints := kept.limited(); complaints != nil {
		t.Errorf("what is within the limits is complained of: %q", complaints)
	}
}

// TestNames: how a pod with a host name and a subdomain calls itself, as it was seen with containerd.
func TestNames(t *testing.T) {
	yes := true
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-0"}, Spec: corev1.PodSpec{Hostname: "hh", Subdomain: "sub"}}
	k := &Kubelet{cfg: Config{ClusterDomain: "cluster.local"}}
	if got := k.machineName(pod); got != "hh" {
		t.Errorf("hostname prints %q, want hh", got)
	}
	pod.Spec.SetHostnameAsFQDN = &yes
	if got := k.machineName(pod); got != "hh.sub.shop.svc.cluster.local" {
		t.Errorf("as full name, hostname prints %q", got)
	}
	host, fqdn := podHostname(pod, "cluster.local")
	if hosts := hostsFile([]string{"10.244.3.7"}, host, fqdn, nil); !strings.HasSuffix(hosts, "\n10.244.3.7\thh.sub.shop.svc.cluster.local\thh\n") {
		t.Errorf("hosts file:\n%s", hosts)
	}
	pod.Spec.HostNetwork = true
	node, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if got := k.machineName(pod); got != node {
		t.Errorf("in the node's network, hostname prints %q, want %q", got, node)
	}
}
