package command

// All returns the groups of rows that make up the table.
func All() [][]Command {
	return [][]Command{
		ddlCommands, diagCommands, helloCommands, listCommands, opCommands, parameterCommands, profileCommands, readCommands,
		replCommands, sessionCommands, unbuiltCommands, userCommands, validateCommands, writeCommands,
	}
}
