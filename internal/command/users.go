package command

import (
	"context"

	"github.com/cairndb/cairn/internal/auth"
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

const notEnforced = "kept and shown, not enforced: access control is not built yet"

var rolesArg = Arg{"roles", TArray, true}

var userCommands = []Command{
	{Name: "createUser", Flags: Write | Secret, Run: userChange((*auth.Store).CreateUser), Note: notEnforced, Help: "Makes a user.",
		Args: []Arg{{"pwd", TString, false}, {"customData", TObject, false}, rolesArg, {"digestPassword", TBoolLike, false}, {"authenticationRestrictions", TArray, false}, {"mechanisms", TArray, false}}},
	{Name: "updateUser", Flags: Write | Secret, Run: userChange((*auth.Store).UpdateUser), Note: notEnforced, Help: "Changes a user.",
		Args: []Arg{{"pwd", TString, false}, {"customData", TObject, false}, {"roles", TArray, false}, {"digestPassword", TBoolLike, false}, {"authenticationRestrictions", TArray, false}, {"mechanisms", TArray, false}}},
	{Name: "dropUser", Flags: Write, Run: userChange((*auth.Store).DropUser), Help: "Drops a user."},
	{Name: "dropAllUsersFromDatabase", Flags: Write, Run: userCount((*auth.Store).DropAllUsers), Help: "Drops all users of a database."},
	{Name: "grantRolesToUser", Flags: Write, Run: userChange((*auth.Store).GrantRolesToUser), Args: []Arg{rolesArg}, Help: "Gives roles to a user."},
	{Name: "revokeRolesFromUser", Flags: Write, Run: userChange((*auth.Store).RevokeRolesFromUser), Args: []Arg{rolesArg}, Help: "Takes roles from a user."},
	{Name: "usersInfo", Run: runUsersInfo, Help: "Shows users.",
		Args: []Arg{{"showPrivileges", TBoolLike, false}, {"showCredentials", TBoolLike, false}, {"showCustomData", TBoolLike, false}, {"showAuthenticationRestrictions", TBoolLike, false}, {"filter", TObject, false}}},
	{Name: "createRole", Flags: Write, Run: userChange((*auth.Store).CreateRole), Note: notEnforced, Help: "Makes a role.",
		Args: []Arg{{"privileges", TArray, true}, rolesArg, {"authenticationRestrictions", TArray, false}}},
	{Name: "updateRole", Flags: Write, Run: userChange((*auth.Store).UpdateRole), Note: notEnforced, Help: "Changes a role.",
		Args: []Arg{{"privileges", TArray, false}, {"roles", TArray, false}, {"authenticationRestrictions", TArray, false}}},
	{Name: "dropRole", Flags: Write, Run: userChange((*auth.Store).DropRole), Help: "Drops a role, also from the users and roles that have it."},
	{Name: "dropAllRolesFromDatabase", Flags: Write, Run: userCount((*auth.Store).DropAllRoles), Help: "Drops all roles of a database."},
	{Name: "grantRolesToRole", Flags: Write, Run: userChange((*auth.Store).GrantRolesToRole), Args: []Arg{rolesArg}, Help: "Gives roles to a role."},
	{Name: "revokeRolesFromRole", Flags: Write, Run: userChange((*auth.Store).RevokeRolesFromRole), Args: []Arg{rolesArg}, Help: "Takes roles from a role."},
	{Name: "grantPrivilegesToRole", Flags: Write, Run: userChange((*auth.Store).GrantPrivilegesToRole), Args: []Arg{{"privileges", TArray, true}}, Help: "Gives privileges to a role."},
	{Name: "revokePrivilegesFromRole", Flags: Write, Run: userChange((*auth.Store).RevokePrivilegesFromRole), Args: []Arg{{"privileges", TArray, true}}, Help: "Takes privileges from a role."},
	{Name: "rolesInfo", Run: runRolesInfo, Help: "Shows roles, with showBuiltinRoles the built-in ones too.",
		Args: []Arg{{"showPrivileges", TBoolLike | TString, false}, {"showBuiltinRoles", TBoolLike, false}, {"showAuthenticationRestrictions", TBoolLike, false}}},
	{Name: "invalidateUserCache", Flags: AdminOnly, Run: func(*Ctx) error { return nil }, Help: "Forgets cached users; there is no cache to forget."},
	{Name: "_mergeAuthzCollections", Flags: Write | AdminOnly, Run: userChange((*auth.Store).Merge), Help: "Merges restored users and roles into those that are there.",
		Args: []Arg{{"tempUsersCollection", TString, false}, {"tempRolesCollection", TString, false}, {"db", TString, true}, {"drop", TBoolLike, false}}},
	{Name: "setFeatureCompatibilityVersion", Flags: Write | AdminOnly, Run: runSetFCV, Note: "8.0 is the only version", Help: "Confirms the MongoDB feature set that is spoken.",
		Args: []Arg{{"confirm", TBoolLike, false}, {"downgradeOnDiskChanges", TBoolLike, false}, {"fromConfigServer", TBoolLike, false}}},
}

// shown is the request as currentOp, the profiler and logs may show it.
func (c *Ctx) shown() bson.Raw {
	if c.Command == nil || !c.Command.Has(Secret) || !c.Body.Has("pwd") {
		return c.Body
	}
	return replaceField(c.Body, "pwd", bson.V("xxx"))
}

func (c *Ctx) authRequest() auth.Request {
	return auth.Request{Command: c.Command.Name, DB: c.DB, Body: c.Body.Clone()} // names and documents are kept
}

// userChange runs a command that changes users or roles and replies nothing but ok.
func userChange(run func(*auth.Store, context.Context, auth.Request) (auth.OpTime, error)) func(*Ctx) error {
	return func(c *Ctx) error {
		if err := c.writeLock(); err != nil {
			return err
		}
		ctx, cancel := c.Op.Context()
		defer cancel()
		t, err := run(c.Node.Auth, ctx, c.authRequest())
		c.Wrote(WriteResult{t.TS, t.Term})
		return err
	}
}

// userCount runs a command that drops users or roles of a database and replies how many.
func userCount(run func(*auth.Store, context.Context, string) (int, auth.OpTime, error)) func(*Ctx) error {
	return func(c *Ctx) error {
		if err := c.writeLock(); err != nil {
			return err
		}
		ctx, cancel := c.Op.Context()
		defer cancel()
		n, t, err := run(c.Node.Auth, ctx, c.DB)
		if err != nil {
			return err
		}
		c.Wrote(WriteResult{t.TS, t.Term})
		c.Reply.Int32("n", int32(n))
		return nil
	}
}

func runUsersInfo(c *Ctx) error {
	ctx, cancel := c.Op.Context()
	defer cancel()
	users, err := c.Node.Auth.UsersInfo(ctx, c.authRequest(), c.Node.Match)
	if err != nil {
		return err
	}
	c.Reply.Any("users", users)
	return nil
}

func runRolesInfo(c *Ctx) error {
	ctx, cancel := c.Op.Context()
	defer cancel()
	roles, fragment, err := c.Node.Auth.RolesInfo(ctx, c.authRequest())
	if err != nil {
		return err
	}
	if fragment != nil {
		c.Reply.AppendDoc("userFragment", fragment)
		return nil
	}
	c.Reply.Any("roles", roles)
	return nil
}

// runSetFCV takes the one version that there is, and wants it confirmed as 8.0 does.
func runSetFCV(c *Ctx) error {
	_, v := c.first()
	if v.Type != bson.TypeString {
		return wrongType("setFeatureCompatibilityVersion.setFeatureCompatibilityVersion", v.Type, TString)
	}
	switch version := v.Str(); {
	case version == "7.0":
		return mongoerr.New(mongoerr.CannotDowngrade, "Cairn has the feature compatibility version '%s' only and cannot downgrade to '%s'", auth.FeatureCompatibilityVersion, version)
	case version != auth.FeatureCompatibilityVersion:
		return mongoerr.New(4926900, "Invalid feature compatibility version value '%s'; expected '%s'. See https://docs.mongodb.com/master/release-notes/8.0-compatibility/#feature-compatibility.", version, auth.FeatureCompatibilityVersion)
	case !c.ArgBool("confirm", false):
		return mongoerr.New(7369100, "Once you have upgraded to 8.0, you will not be able to downgrade FCV and binary version without support assistance. Please re-run this command with 'confirm: true' to acknowledge this and continue with the FCV upgrade.")
	}
	if err := c.writeLock(); err != nil {
		return err
	}
	ctx, cancel := c.Op.Context()
	defer cancel()
	t, err := c.Node.Auth.SetFeatureVersion(ctx)
	c.Wrote(WriteResult{t.TS, t.Term})
	return err
}
