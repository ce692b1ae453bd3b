package expr

// Table returns the registry, sorted by name. Please keep it so.
func Table() []Op {
	return []Op{
		{Name: "$literal", Since: "2.6", Help: "a value that is not parsed", parse: parseLiteral},
	}
}
