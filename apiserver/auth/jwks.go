package auth

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/base64"
	"maps"
	"math/big"
	"slices"
)

// JWK is a public key in the form of RFC 7517. Whoever has it can check a
// ServiceAccount's token without asking this server.
type JWK struct {
	Use   string `json:"use"` // "sig"
	Type  string `json:"kty"` // "RSA" or "EC"
	ID    string `json:"kid"` // as in a token's header
	Curve string `json:"crv,omitempty"`
	Alg   string `json:"alg"` // RS256, ES256, ES384
	N     string `json:"n,omitempty"`
	E     string `json:"e,omitempty"`
	X     string `json:"x,omitempty"`
	Y     string `json:"y,omitempty"`
}

// Issuer is whom the tokens name as theirs.
func (t *Tokens) Issuer() string { return t.issuer }

// PublicKeys are all keys whose signature counts, in the order of their IDs.
func (t *Tokens) PublicKeys() []JWK {
	var list []JWK
	for _, id := range slices.Sorted(maps.Keys(t.keys)) {
		key := JWK{Use: "sig", ID: id}
		if method, err := methodOf(t.keys[id]); err == nil {
			key.Alg = method.Alg()
		}
		switch k := t.keys[id].(type) {
		case *rsa.PublicKey:
			key.Type, key.N, key.E = "RSA", base64url(k.N.Bytes()), base64url(big.NewInt(int64(k.E)).Bytes())
		case *ecdsa.PublicKey:
			point, err := k.Bytes() // 4, X, Y
			if err != nil {
				continue
			}
			half := (len(point) - 1) / 2
			key.Type, key.Curve = "EC", k.Curve.Params().Name
			key.X, key.Y = base64url(point[1:1+half]), base64url(point[1+half:])
		default:
			continue
		}
		list = append(list, key)
	}
	return list
}

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
