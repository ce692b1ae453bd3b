package catalog

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// CheckValidator checks a document that is to be inserted (old is nil) or to replace
// old against the collection's validator. Callers leave it out for
// bypassDocumentValidation. A failure under validationAction "warn" is logged only.
func (c *Collection) CheckValidator(old, new bson.Raw) error {
	if c.validator == nil || c.Options.ValidationLevel == "off" {
		return nil
	}
	ok, err := c.validator.Match(new)
	if err != nil || ok {
		return err
	}
	if old != nil && c.Options.ValidationLevel == "moderate" {
		// Documents that were invalid before may stay so.
		if was, err := c.validator.Match(old); err != nil || !was {
			return err
		}
	}
	info := bson.NewBuilder(nil).Append("failingDocumentId", new.Get("_id"))
	info.Doc("details").AppendDoc("failingFilter", c.Options.Validator).End()
	d := info.Finish()
	if c.Options.ValidationAction != "error" {
		c.cat.opt.Logger.Warn("document would fail validation", "component", "catalog", "ns", c.NS.String(), "info", d.String())
		if c.Options.ValidationAction == "warn" {
			return nil
		}
	}
	return mongoerr.New(mongoerr.DocumentValidationFailure, "Document failed validation").WithExtra(bson.D("errInfo", d))
}
