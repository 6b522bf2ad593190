package apiserver

import (
	"maps"
	"net/http"
	"slices"

	"github.com/podarium/podarium/apiserver/auth"
)

// Somebody else can check a pod's token by himself: he reads here who issues
// tokens, and the public keys. That is OpenID Connect Discovery, for which
// system:service-account-issuer-discovery is the role.
const (
	openIDConfiguration = "/.well-known/openid-configuration"
	openIDKeys          = "/openid/v1/jwks"
)

type openIDDocument struct {
	Issuer        string   `json:"issuer"`
	KeysURI       string   `json:"jwks_uri"`
	ResponseTypes []string `json:"response_types_supported"`
	SubjectTypes  []string `json:"subject_types_supported"`
	Algorithms    []string `json:"id_token_signing_alg_values_supported"`
}

func (s *Server) serveOpenID(w http.ResponseWriter, path string) {
	keys := s.tokens.PublicKeys()
	if path == openIDKeys {
		writeJSON(w, http.StatusOK, "application/jwk-set+json", map[string][]auth.JWK{"keys": keys})
		return
	}
	algorithms := map[string]bool{}
	for _, k := range keys {
		algorithms[k.Alg] = true
	}
	writeJSON(w, http.StatusOK, mediaJSON, openIDDocument{
		Issuer: s.tokens.Issuer(), KeysURI: "https://" + s.address() + openIDKeys,
		ResponseTypes: []string{"id_token"}, SubjectTypes: []string{"public"}, Algorithms: slices.Sorted(maps.Keys(algorithms)),
	})
}
