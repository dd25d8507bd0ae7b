#!/usr/bin/env escript
%% SPDX-License-Identifier: ISC
%% p1_pgsql. It has no functions for COPY, NOTIFY and cancel.

%% It needs long for many rows.
-define(ROWS, "select repeat(md5(i::text), 3200) from generate_series(1, 1000) i").

connect() ->
    Env = fun(Name) -> os:getenv("PG" ++ Name) end,
    Certificate = [{Option, Env(Name)} || {Option, Name} <- [{certfile, "SSLCERT"}, {keyfile, "SSLKEY"}], Env(Name) =/= false],
    pgsql:connect([{host, Env("HOST")}, {port, list_to_integer(Env("PORT"))}, {database, Env("DATABASE")},
		   {user, Env("USER")}, {password, Env("PASSWORD")}, {as_binary, true}, {transport, ssl},
		   {verify, verify_peer}, {cacertfile, Env("SSLROOTCERT")}, {server_name_indication, Env("HOST")}
		   | Certificate]).

value(C, Query) ->
    {ok, [{_, _, [[Value]]}]} = pgsql:squery(C, Query),
    Value.

check("connected", C) -> value(C, "select current_user");
check("parameters", C) ->
    {ok, _, _, _, [[{_, A}, {_, B}, {_, Null}]]} = pgsql:pquery(C, "select $1::text, $2::text, $3::text", [<<"käse 'x'"/utf8>>, <<"42">>, null]),
    [A, "|", B, "|", case Null of null -> "NULL"; _ -> Null end];
check("rows", C) ->
    {ok, [{_, _, Rows}]} = pgsql:squery(C, ?ROWS),
    io_lib:format("~b rows, ~b bytes", [length(Rows), lists:sum([byte_size(V) || [V] <- Rows])]);
check("error", C) ->
    {ok, [{error, Fields}]} = pgsql:squery(C, "select 1/0"),
    [proplists:get_value(code, Fields), " then ", value(C, "select 1")];
check("many", _) ->
    All = [begin {ok, C} = connect(), C end || _ <- lists:seq(1, 50)],
    integer_to_list(length(lists:usort([value(C, "select pg_backend_pid()") || C <- All]))).

run(Check) ->
    case connect() of
	{ok, C} -> check(Check, C);
	{error, {_, [{severity, _} | _] = Fields}} ->
	    ["failed: ", proplists:get_value(code, Fields), " ", proplists:get_value(message, Fields)];
	{error, Reason} -> "failed: " ++ re:replace(io_lib:format("~0p", [Reason]), "\\s+", " ", [global, {return, list}])
    end.

main(Checks) ->
    logger:set_primary_config(level, none),
    io:setopts([{encoding, latin1}]), % results are bytes
    [application:ensure_all_started(A) || A <- [ssl, stringprep]], % SCRAM uses stringprep
    [io:format("~s ~s~n", [Check, iolist_to_binary(run(Check))]) || Check <- Checks].
