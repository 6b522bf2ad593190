//go:build kubeproxy

package compare

import (
	"flag"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/diff"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/podarium/podarium/internal/netns/nstest"
)

var (
	seed  = flag.Uint64("seed", 0, "of the dice; 0: another each time")
	steps = flag.Int("steps", 25, "how many")
	modes = flag.String("modes", "iptables,nftables", "proxy modes to compare, in a list")
)

// variants are flags of kube-proxy; the seed chooses.
var variants = [][]string{
	{"--cluster-cidr=10.244.0.0/16"},
	{"--cluster-cidr=10.244.0.0/16,fd00:10:244::/48"},
	{"--cluster-cidr=10.244.0.0/16,fd00:10:244::/48", "--masquerade-all"},
	{"--cluster-cidr=10.244.0.0/16", "--nodeport-addresses=192.168.56.0/24"},
	{"--cluster-cidr=10.244.0.0/16,fd00:10:244::/48", "--nodeport-addresses=primary"},
	{"--detect-local-mode=NodeCIDR"},
	{"--cluster-cidr=10.244.0.0/16,fd00:10:244::/48", "--iptables-localhost-nodeports=false"},
	{"--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cni0"},
	{"--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=veth"},
	{},
}

func TestCompare(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	flags := variants[*seed%uint64(len(variants))]
	t.Logf("seed %d, flags %q", *seed, flags)
	var pairs []*pair
	var hosts []*nstest.Host
	for mode := range strings.SplitSeq(*modes, ",") {
		p := newPair(t, mode)
		pairs, hosts = append(pairs, p), append(hosts, p.theirs, p.ours)
	}
	plane := startControlPlane(t, hosts)
	for _, p := range pairs {
		p.start(plane.kubeconfig, flags)
	}
	c := newCluster(*seed)
	for step := range *steps {
		changes := c.step()
		for _, change := range changes {
			plane.do(change)
		}
		plane.mark(step)
		ports := plane.healthCheckPorts()
		for _, p := range pairs {
			if theirs, ours := p.settle(step, ports); theirs != ours {
				difference := diff.Diff("kube-proxy", []byte(theirs), "ours", []byte(ours))
				t.Errorf("%s mode differs after step %d: %s\n%s\n%s", p.mode, step, describe(changes), difference, plane.objects(difference))
			}
		}
		if t.Failed() {
			t.Fatalf("again: make compare ARGS='-seed %d -steps %d'; flags %q", *seed, step+1, flags)
		}
		t.Logf("step %d: %d Services, equal after: %s", step, len(c.services), describe(changes))
	}
}

var serviceName = regexp.MustCompile(`\b(default|other)/(s\d+)\b`)

// objects are the Services which a difference names, and their slices, as YAML.
func (p *controlPlane) objects(difference []byte) string {
	var names, documents []string
	for line := range strings.Lines(string(difference)) {
		if strings.HasPrefix(line, "+") || strings.HasPrefix(line, "-") {
			names = append(names, serviceName.FindAllString(line, -1)...)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		namespace, name, _ := strings.Cut(name, "/")
		if s, err := p.client.CoreV1().Services(namespace).Get(p.t.Context(), name, metav1.GetOptions{}); err == nil {
			s.ManagedFields = nil
			documents = append(documents, document(s))
		}
		list, err := p.client.DiscoveryV1().EndpointSlices(namespace).List(p.t.Context(), metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + name})
		if err != nil {
			continue
		}
		for _, slice := range list.Items {
			slice.ManagedFields = nil
			documents = append(documents, document(&slice))
		}
	}
	return strings.Join(documents, "---\n")
}

func document(object any) string {
	text, err := yaml.Marshal(object)
	if err != nil {
		return fmt.Sprintf("# %v\n", err)
	}
	return string(text)
}
