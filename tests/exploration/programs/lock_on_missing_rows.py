"""A doctor has one appointment at nine: its rows are read FOR UPDATE, but there are none yet, and none is locked.

As in Polar's billing entries, and in a fix that was proposed for Cal.com: FOR UPDATE locks the rows that it returns,
not the gap in which another session inserts. The fix locks a row that always exists.
"""

from __future__ import annotations

from . import Connection, Program, value

SCHEMA = """
CREATE TABLE doctors (id int PRIMARY KEY);
CREATE TABLE appointments (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, doctor int NOT NULL, hour int NOT NULL);
INSERT INTO doctors VALUES (1);
"""


def make_appointment(connection: Connection) -> bool:
    with connection.transaction():
        if value(connection, "SELECT id FROM appointments WHERE doctor = 1 AND hour = 9 FOR UPDATE"):
            return False
        connection.execute("INSERT INTO appointments (doctor, hour) VALUES (1, 9)")
    return True


def make_appointment_behind_the_doctor(connection: Connection) -> bool:
    with connection.transaction():
        connection.execute("SELECT FROM doctors WHERE id = 1 FOR UPDATE")
        return make_appointment(connection)


PROGRAM = Program(
    schema=SCHEMA,
    buggy=(make_appointment,),
    fixed=(make_appointment_behind_the_doctor,),
    invariant="SELECT doctor, hour FROM appointments GROUP BY doctor, hour HAVING count(*) > 1",
)
