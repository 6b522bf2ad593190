package apiserver

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
	"sort"
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/podarium/podarium/apiserver/resource"
)

// Discovery tells clients which resources there are: `kubectl get deploy` asks
// it that "deploy" means /apis/apps/v1/…/deployments. There are two forms: one
// document for each group, and (kubectl 1.26 and later) all groups in one.

const aggregatedV2 = mediaJSON + ";g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

var allVerbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

// groupVersions lists the groups as upstream's discovery does, which is the order
// in which kubectl looks for a short name.
func (s *Server) groupVersions() []schema.GroupVersion {
	var list []schema.GroupVersion
	add := func(gv schema.GroupVersion) {
		if gv.Group != "" && !slices.Contains(list, gv) {
			list = append(list, gv)
		}
	}
	for _, k := range resource.Kinds {
		add(k.GroupVersion)
		if k == resource.EventsEvent { // after which upstream tells the reviews
			add(authn)
			add(authz)
		}
	}
	return list
}

func (s *Server) serveAPI(w http.ResponseWriter, r *request) error {
	if wantsAggregated(r.Request) {
		return s.writeAggregated(w, []schema.GroupVersion{{Version: "v1"}})
	}
	s.respond(w, r.Request, http.StatusOK, &metav1.APIVersions{
		TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, // it is older than apiVersion
		Versions: []string{"v1"},
		ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{
			{ClientCIDR: "0.0.0.0/0", ServerAddress: s.address()},
		},
	})
	return nil
}

func (s *Server) serveAPIs(w http.ResponseWriter, r *request) error {
	if wantsAggregated(r.Request) {
		return s.writeAggregated(w, s.groupVersions())
	}
	list := &metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
	for _, gv := range s.groupVersions() {
		g := groupOf(gv)
		g.TypeMeta = metav1.TypeMeta{}
		list.Groups = append(list.Groups, g)
	}
	s.respond(w, r.Request, http.StatusOK, list)
	return nil
}

func groupOf(gv schema.GroupVersion) metav1.APIGroup {
	version := metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version}
	return metav1.APIGroup{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"},
		Name:     gv.Group, Versions: []metav1.GroupVersionForDiscovery{version}, PreferredVersion: version,
	}
}

// serveGroup answers /api/v1, /apis/apps and /apis/apps/v1.
func (s *Server) serveGroup(w http.ResponseWriter, r *request, path string) error {
	gv := schema.GroupVersion{Version: "v1"}
	if rest, ok := strings.CutPrefix(path, "/apis/"); ok {
		group, version, hasVersion := strings.Cut(rest, "/")
		if !hasVersion {
			for _, have := range s.groupVersions() {
				if have.Group == group {
					g := groupOf(have)
					s.respond(w, r.Request, http.StatusOK, &g)
					return nil
				}
			}
			plain(w, http.StatusNotFound, "404 page not found")
			return nil
		}
		gv = schema.GroupVersion{Group: group, Version: version}
	} else if path != "/api/v1" {
		return errNoSuchPath
	}
	list := s.resourceList(gv)
	if len(list.APIResources) == 0 {
		if s.groupExists(gv.Group) {
			return errNoSuchPath
		}
		plain(w, http.StatusNotFound, "404 page not found")
		return nil
	}
	s.respond(w, r.Request, http.StatusOK, list)
	return nil
}

func (s *Server) resourceList(gv schema.GroupVersion) *metav1.APIResourceList {
	list := &metav1.APIResourceList{
		TypeMeta: metav1.TypeMeta{Kind: "APIResourceList"}, GroupVersion: gv.String(), APIResources: []metav1.APIResource{},
	}
	if gv.Group != "" {
		list.APIVersion = "v1"
	}
	if gv == bindings.GroupVersion() {
		list.APIResources = append(list.APIResources, metav1.APIResource{
			Name: bindings.Resource, SingularName: "binding", Kind: "Binding", Verbs: []string{"create"}, Namespaced: true,
		})
	}
	for _, k := range resource.Kinds {
		if k.GroupVersion == gv {
			list.APIResources = append(list.APIResources, plainResources(k)...)
		}
	}
	for gvr, kind := range sortedReviews() {
		if gvr.GroupVersion() == gv {
			list.APIResources = append(list.APIResources, metav1.APIResource{
				Name: gvr.Resource, SingularName: strings.ToLower(kind), Kind: kind, Verbs: []string{"create"}, Namespaced: strings.HasPrefix(gvr.Resource, "local"),
			})
		}
	}
	sort.SliceStable(list.APIResources, func(i, j int) bool { return list.APIResources[i].Name < list.APIResources[j].Name })
	return list
}

func plainResources(k *resource.Kind) []metav1.APIResource {
	list := []metav1.APIResource{{
		Name: k.Plural, SingularName: k.Singular, Namespaced: k.Namespaced, Kind: k.Kind, Verbs: verbs(k),
		ShortNames: k.ShortNames, Categories: k.Categories, StorageVersionHash: versionHash(k),
	}}
	for _, sub := range k.Parts() {
		list = append(list, metav1.APIResource{
			Name: k.Plural + "/" + sub.Name, Namespaced: k.Namespaced, Kind: sub.Kind, Verbs: sub.Verbs,
			Group: sub.GroupVersion.Group, Version: sub.GroupVersion.Version,
		})
	}
	return list
}

func verbs(k *resource.Kind) []string {
	if k == resource.Namespace { // one at a time
		return slices.DeleteFunc(slices.Clone(allVerbs), func(v string) bool { return v == "deletecollection" })
	}
	return allVerbs
}

// versionHash lets clients see that the stored version changed.
func versionHash(k *resource.Kind) string {
	sum := sha256.Sum256([]byte(k.Stored().GroupVersion.Group + "/" + k.Stored().GroupVersion.Version + "/" + k.Stored().Kind))
	return base64.StdEncoding.EncodeToString(sum[:8])
}

func wantsAggregated(r *http.Request) bool {
	for clause := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		clause = strings.ReplaceAll(clause, " ", "")
		if strings.HasPrefix(clause, mediaJSON+";") && strings.Contains(clause, "as=APIGroupDiscoveryList") &&
			strings.Contains(clause, "g=apidiscovery.k8s.io") && slices.Contains(strings.Split(clause, ";"), "v=v2") {
			return true
		}
	}
	return false
}

func (s *Server) writeAggregated(w http.ResponseWriter, gvs []schema.GroupVersion) error {
	list := apidiscoveryv2.APIGroupDiscoveryList{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: "apidiscovery.k8s.io/v2"},
	}
	for _, gv := range gvs {
		group := apidiscoveryv2.APIGroupDiscovery{Versions: []apidiscoveryv2.APIVersionDiscovery{s.aggregated(gv)}}
		group.Name = gv.Group
		list.Items = append(list.Items, group)
	}
	w.Header().Set("Vary", "Accept")
	writeJSON(w, http.StatusOK, aggregatedV2, list)
	return nil
}

// aggregated is the same list, with subresources below their resource.
func (s *Server) aggregated(gv schema.GroupVersion) apidiscoveryv2.APIVersionDiscovery {
	out := apidiscoveryv2.APIVersionDiscovery{Version: gv.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent}
	for _, res := range s.resourceList(gv).APIResources {
		kind := &metav1.GroupVersionKind{Group: res.Group, Version: res.Version, Kind: res.Kind}
		if parent, sub, ok := strings.Cut(res.Name, "/"); ok {
			for i := range out.Resources {
				if out.Resources[i].Resource == parent {
					out.Resources[i].Subresources = append(out.Resources[i].Subresources,
						apidiscoveryv2.APISubresourceDiscovery{Subresource: sub, ResponseKind: kind, Verbs: res.Verbs})
				}
			}
			continue
		}
		scope := apidiscoveryv2.ScopeCluster
		if res.Namespaced {
			scope = apidiscoveryv2.ScopeNamespace
		}
		out.Resources = append(out.Resources, apidiscoveryv2.APIResourceDiscovery{
			Resource: res.Name, ResponseKind: kind, Scope: scope, SingularResource: res.SingularName,
			Verbs: res.Verbs, ShortNames: res.ShortNames, Categories: res.Categories,
		})
	}
	return out
}
