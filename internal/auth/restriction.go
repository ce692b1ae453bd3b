package auth

import (
	"fmt"
	"net/netip"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// checkRestrictions checks an authenticationRestrictions argument: documents that name
// addresses or ranges of clients (clientSource) and of the server (serverAddress).
func checkRestrictions(v bson.Value) error {
	for e := range v.Doc().Values() {
		if e.Type != bson.TypeDocument {
			return mongoerr.New(mongoerr.UnsupportedFormat, "'authenticationRestrictions' array sub-documents must be a BSONObj")
		}
		for k, list := range e.Doc().Elems() {
			if k != "clientSource" && k != "serverAddress" {
				return mongoerr.New(mongoerr.UnknownField, "BSON field 'AddressRestriction.%s' is an unknown field.", k)
			}
			if list.Type == bson.TypeString { // one address may stand without an array
				list = bson.V(bson.A(list))
			}
			if list.Type != bson.TypeArray {
				return wrongType("AddressRestriction."+k, list, "array")
			}
			for a := range list.Doc().Values() {
				if a.Type != bson.TypeString {
					return wrongType("AddressRestriction."+k, a, "string")
				}
				if err := checkRange(a.Str()); err != nil {
					return mongoerr.New(mongoerr.BadValue, "%v", err)
				}
			}
		}
	}
	return nil
}

func checkRange(s string) error {
	if _, err := netip.ParseAddr(s); err == nil {
		return nil
	}
	if _, err := netip.ParsePrefix(s); err != nil {
		return fmt.Errorf("Invalid IP address or CIDR range: %s", s) //lint:ignore ST1005 MongoDB's form
	}
	return nil
}
