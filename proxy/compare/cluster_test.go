package compare

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// cluster is what the dice have made so far. It knows what it asked for, not what
// the API server made of it.
type cluster struct {
	dice     *rand.Rand
	made     int // Services, of which many are gone
	services []*service
}

// service is a Service and its slices.
type service struct {
	object *corev1.Service
	slices []*discoveryv1.EndpointSlice
	number int
	// second is its IP families when they are not IPv4 alone.
	second []corev1.IPFamily
}

// change is a request to the API server: the verb, and of what.
type change struct {
	verb    string // create, update, delete; status; families
	service *corev1.Service
	slice   *discoveryv1.EndpointSlice
	second  []corev1.IPFamily // with families: from now on, nil for IPv4 alone
}

func (c change) String() string {
	if c.slice != nil {
		return c.verb + " slice " + c.slice.Namespace + "/" + c.slice.Name
	}
	text := c.verb + " " + c.service.Namespace + "/" + c.service.Name
	if c.verb == "families" {
		text += fmt.Sprint(c.second)
	}
	return text
}

func newCluster(seed uint64) *cluster {
	return &cluster{dice: rand.New(rand.NewPCG(seed, 0))}
}

// step is what happens at once.
func (c *cluster) step() []change {
	var all []change
	for range pick(c.dice, 1, 2, 3, 5) {
		all = append(all, c.event()...)
	}
	return all
}

func (c *cluster) event() []change {
	roll := c.dice.Float64()
	if len(c.services) < 4 || roll < .4 && len(c.services) < 40 {
		c.made++
		return c.create(c.made)
	}
	s := pick(c.dice, c.services...)
	switch {
	case roll < .6:
		return c.reslice(s)
	case roll < .75:
		return c.update(s)
	case roll < .88:
		return c.remove(s)
	default: // gone, and here again as another
		return append(c.remove(s), c.create(s.number)...)
	}
}

func (c *cluster) create(number int) []change {
	s := &service{number: number, object: &corev1.Service{}}
	s.object.Name = fmt.Sprintf("s%d", number)
	s.object.Namespace = pick(c.dice, "default", "other")
	c.label(s.object)
	s.object.Spec = c.spec(s)
	c.services = append(c.services, s)
	changes, slices := append([]change{{verb: "create", service: s.object.DeepCopy()}}, c.others(s)...), c.reslice(s)
	if c.chance(.3) {
		return append(slices, changes...)
	}
	return append(changes, slices...)
}

// update gives a Service another spec. The API server knows IPv4 alone.
func (c *cluster) update(s *service) []change {
	var all []change
	if s.second != nil {
		all = append(all, change{verb: "families", service: s.object.DeepCopy()})
	}
	s.object.Spec = c.spec(s)
	if s.object.Spec.Type == corev1.ServiceTypeExternalName {
		s.second = nil
	}
	all = append(all, change{verb: "update", service: s.object.DeepCopy()})
	return append(all, c.others(s)...)
}

// others are the requests that follow when a Service was written.
func (c *cluster) others(s *service) []change {
	var all []change
	if s.object.Spec.Type == corev1.ServiceTypeLoadBalancer {
		s.object.Status = c.status(s)
		all = append(all, change{verb: "status", service: s.object.DeepCopy()})
	}
	if s.second != nil {
		all = append(all, change{verb: "families", service: s.object.DeepCopy(), second: s.second})
	}
	return all
}

func (c *cluster) remove(s *service) []change {
	c.services = slices.DeleteFunc(c.services, func(o *service) bool { return o == s })
	all := []change{{verb: "delete", service: s.object}}
	for _, slice := range s.slices {
		all = append(all, change{verb: "delete", slice: slice})
	}
	if c.chance(.3) {
		slices.Reverse(all)
	}
	if s.second != nil { // the API server frees the address of IPv4
		all = append([]change{{verb: "families", service: s.object}}, all...)
	}
	return all
}

// reslice gives a Service other slices. The type of addresses cannot change, so
// another type is another object under the same name.
func (c *cluster) reslice(s *service) []change {
	var all []change
	old := s.slices
	s.slices = c.newSlices(s)
	for _, o := range old {
		i := slices.IndexFunc(s.slices, func(n *discoveryv1.EndpointSlice) bool { return n.Name == o.Name })
		switch {
		case i >= 0 && s.slices[i].AddressType == o.AddressType:
			all = append(all, change{verb: "update", slice: s.slices[i]})
		default:
			all = append(all, change{verb: "delete", slice: o})
		}
	}
	for _, n := range s.slices {
		if !slices.ContainsFunc(old, func(o *discoveryv1.EndpointSlice) bool { return n.Name == o.Name && n.AddressType == o.AddressType }) {
			all = append(all, change{verb: "create", slice: n})
		}
	}
	return all
}

// free is those of the addresses which no other Service has.
func (c *cluster) free(own *service, addresses ...string) []string {
	return slices.DeleteFunc(addresses, func(a string) bool {
		return slices.ContainsFunc(c.services, func(s *service) bool { return s != own && slices.Contains(s.addresses(), a) })
	})
}

// addresses are those besides the ClusterIPs.
func (s *service) addresses() []string {
	all := slices.Clone(s.object.Spec.ExternalIPs)
	for _, ingress := range s.object.Status.LoadBalancer.Ingress {
		all = append(all, ingress.IP)
	}
	return all
}

func (c *cluster) chance(p float64) bool { return c.dice.Float64() < p }

func pick[T any](dice *rand.Rand, from ...T) T { return from[dice.IntN(len(from))] }

// sample is up to n different ones.
func sample[T any](dice *rand.Rand, n int, from ...T) []T {
	from = slices.Clone(from)
	dice.Shuffle(len(from), func(i, j int) { from[i], from[j] = from[j], from[i] })
	return from[:min(n, len(from))]
}

func describe(changes []change) string {
	var words []string
	for _, c := range changes {
		words = append(words, c.String())
	}
	return strings.Join(words, ", ")
}
