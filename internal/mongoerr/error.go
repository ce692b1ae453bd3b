// Package mongoerr is the only error that a client can see: MongoDB's code, code
// name, message, labels and extra reply fields.
//
// It owns the table of codes and names. It promises that every Error has a code
// with its exact name. It must not know who raises or sends an error.
package mongoerr

import (
	"errors"
	"fmt"

	"github.com/cairndb/cairn/internal/bson"
)

// Error is an error as MongoDB reports it.
type Error struct {
	Code    Code
	Message string
	Labels  []string // errorLabels of the reply, nil for most
	Extra   bson.Raw // further fields of the reply or write error, e.g. keyPattern and keyValue
}

// Error returns "message (CodeName)".
func (e *Error) Error() string { return fmt.Sprintf("%s (%s)", e.Message, e.Code) }

// New returns an error with a formatted message.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// WithLabels returns a copy of e that carries labels too.
func (e *Error) WithLabels(labels ...string) *Error {
	c := *e
	c.Labels = append(append([]string(nil), e.Labels...), labels...)
	return &c
}

// WithExtra returns a copy of e with extra reply fields.
func (e *Error) WithExtra(d bson.Raw) *Error {
	c := *e
	c.Extra = d
	return &c
}

// As returns err as an *Error if it is or wraps one.
func As(err error) (*Error, bool) {
	if err == nil {
		return nil, false
	}
	if e, ok := err.(*Error); ok {
		return e, e != nil
	}
	var e *Error
	ok := errors.As(err, &e)
	return e, ok
}

// CodeOf returns the code of err: 0 for nil, InternalError for errors of no code.
func CodeOf(err error) Code {
	if err == nil {
		return 0
	}
	if e, ok := As(err); ok {
		return e.Code
	}
	return InternalError
}

// Is reports whether err carries code.
func Is(err error, code Code) bool { return err != nil && CodeOf(err) == code }
