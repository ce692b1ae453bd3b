package mongoerr

// names maps codes to MongoDB's code names; a code that is not here is a location.
var names = map[Code]string{
	0: "OK", InternalError: "InternalError", BadValue: "BadValue", FailedToParse: "FailedToParse", TypeMismatch: "TypeMismatch",
}
