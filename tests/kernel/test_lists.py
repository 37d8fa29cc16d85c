# SPDX-License-Identifier: GPL-2.0-only
"""list_head: adds and deletes are the separate stores they are in C, so a wrong lock corrupts a list here as there."""

from __future__ import annotations

from stressvmap.journal import events as ev
from stressvmap.kernel.lists import (
    INIT_LIST_HEAD,
    ListHead,
    list_add,
    list_add_tail,
    list_add_tail_rcu,
    list_del,
    list_del_init,
    list_del_rcu,
    list_empty,
    list_first_entry,
    list_for_each_entry_rcu,
    list_for_each_entry_safe,
    list_move_tail,
    list_replace_init,
)
from stressvmap.sched.replay import Run
from tests.kernel.world import Thing, World, until


def owners(head: ListHead) -> list[int]:
    """Ids on the list by its next pointers, looked at from outside."""
    found: list[int] = []
    node = head.next
    while node is not None and node is not head and len(found) < 20:
        found.append(node.owner.id)
        node = node.next
    return found


def is_sound(head: ListHead) -> bool:
    """Whether following next and following prev agree."""
    before: ListHead = head
    node = head.next
    while node is not None and node is not head:
        if node.prev is not before:
            return False
        before = node
        node = node.next
    return node is head and head.prev is before


def test_an_add_is_four_accesses_and_publishes_with_a_marked_store() -> None:
    world = World()
    first, new = world.thing(), world.thing()
    head = world.list_of(first)
    world.run(lambda: list_add_tail_rcu(new.node, head))
    assert [(event[0], event[4], event[5]) for event in world.events if event[0] != ev.OBJECT_ALLOC][:-1] == [
        (ev.READ, head.owner.id, "head.prev"),
        (ev.WRITE, new.id, "node.next"),
        (ev.WRITE, new.id, "node.prev"),
        (ev.WRITE_ONCE, first.id, "node.next"),
        (ev.WRITE, head.owner.id, "head.prev"),
        (ev.LIST_ADD, new.id, "node"),
    ]
    assert owners(head) == [first.id, new.id]
    assert is_sound(head)


def test_a_list_is_empty_after_init_and_in_order_after_adds_and_deletes() -> None:
    world = World()
    things = [world.thing() for _ in range(3)]
    head = ListHead(world.machine, world.thing(), "head")

    def body() -> None:
        INIT_LIST_HEAD(head)
        assert list(list_for_each_entry_rcu(head)) == []
        for thing in things:
            list_add_tail(thing.node, head)
        list_del(things[1].node)

    world.run(body)
    assert owners(head) == [things[0].id, things[2].id]
    assert is_sound(head)
    assert [event[4] for event in world.of(ev.LIST_ADD)] == [thing.id for thing in things]
    assert world.of(ev.LIST_CORRUPT) == []


def neighbours(world: World) -> tuple[ListHead, Thing, Thing, Thing]:
    first, second, third = world.thing(), world.thing(), world.thing()
    return world.list_of(first, second, third), first, second, third


def test_two_deletes_of_neighbours_under_different_locks_corrupt_the_list() -> None:
    # task 1: del first                 task 2: del second
    #   prev = head, next = second
    #                                     prev = first, next = third
    #                                     third.prev = first; first.next = third
    #   second.prev = head
    #   head.next = second              -> the deleted second is on the list again
    world = World(Run(1, until(ev.WRITE, "node.prev")), Run(2), Run(1))
    head, first, second, third = neighbours(world)

    def delete(thing: Thing) -> None:
        with thing.lock:
            list_del_rcu(thing.node)

    world.run(lambda: delete(first), lambda: delete(second))
    assert world.of(ev.LIST_CORRUPT) == []  # neither look saw it ...
    assert not is_sound(head)  # ... but whoever walks does
    assert second.id in owners(head)
    assert third.node.prev is first.node


def test_a_delete_that_finds_a_neighbour_pointing_elsewhere_is_recorded_as_corrupt() -> None:
    world = World(Run(1, until(ev.WRITE, "node.prev")), Run(2), Run(1))
    head, first, second, third = neighbours(world)

    def delete(thing: Thing, *, again: Thing | None = None) -> None:
        with thing.lock:
            list_del_rcu(thing.node)
        if again is not None:
            with again.lock:
                list_del_rcu(again.node)

    world.run(lambda: delete(first), lambda: delete(second, again=third))
    assert [(event[1], event[4]) for event in world.of(ev.LIST_CORRUPT)] == []
    world = World(Run(1, until(ev.WRITE_ONCE, "head.next")), Run(2), Run(1))
    head, first, second, third = neighbours(world)
    world.run(lambda: delete(first), lambda: delete(second))
    # second.prev is head by now, but head.next is still first.
    assert world.of(ev.LIST_CORRUPT) == [
        (ev.LIST_CORRUPT, 2, 1, "", second.id, "node", head.owner.id),
    ]


def test_two_deletes_of_neighbours_under_one_lock_do_not_corrupt_it() -> None:
    world = World(Run(1, until(ev.WRITE, "node.prev")), Run(2), Run(1))
    head, first, second, third = neighbours(world)

    def delete(thing: Thing) -> None:
        with third.lock:
            list_del_rcu(thing.node)

    world.run(lambda: delete(first), lambda: delete(second))
    assert owners(head) == [third.id]
    assert is_sound(head)
    assert world.of(ev.LIST_CORRUPT) == []


def test_two_adds_under_different_locks_lose_one() -> None:
    world = World(Run(1, until(ev.WRITE, "node.next")), Run(2), Run(1))
    one, two = world.thing(), world.thing()
    head = world.list_of()

    def add(thing: Thing) -> None:
        with thing.lock:
            list_add_tail_rcu(thing.node, head)

    world.run(lambda: add(one), lambda: add(two))
    assert owners(head) == [one.id]


def test_an_add_to_a_list_whose_tail_does_not_point_back_is_recorded_as_corrupt() -> None:
    world = World(Run(1, until(ev.WRITE, "head.prev")), Run(2), Run(1))
    one, two = world.thing(), world.thing()
    head = world.list_of()
    world.run(lambda: list_add_tail_rcu(one.node, head), lambda: list_add_tail_rcu(two.node, head))
    assert world.of(ev.LIST_CORRUPT) == [(ev.LIST_CORRUPT, 2, 1, "", two.id, "node", head.owner.id)]


def test_a_walker_that_stands_on_a_deleted_node_goes_on_and_a_later_one_does_not_see_it() -> None:
    world = World(Run(1, until(ev.READ_ONCE, "node.next")), Run(2), Run(1))
    head, first, second, third = neighbours(world)
    seen: list[int] = []
    seen_later: list[int] = []

    def walk() -> None:
        seen.extend(thing.id for thing in list_for_each_entry_rcu(head))

    def delete_and_walk() -> None:
        list_del_rcu(first.node)
        list_del_rcu(second.node)
        seen_later.extend(thing.id for thing in list_for_each_entry_rcu(head))

    world.run(walk, delete_and_walk)
    # It stood on `first`, whose next still leads to `second`, and second's to `third`.
    assert seen == [first.id, second.id, third.id]
    assert seen_later == [third.id]


def test_a_walker_sees_an_entry_added_before_it_came_to_the_end() -> None:
    world = World(Run(1, until(ev.READ_ONCE, "node.next")), Run(2), Run(1))
    first, new = world.thing(), world.thing()
    head = world.list_of(first)
    seen: list[int] = []
    world.run(
        lambda: seen.extend(thing.id for thing in list_for_each_entry_rcu(head)),
        lambda: list_add_tail_rcu(new.node, head),
    )
    assert seen == [first.id, new.id]


def test_list_del_rcu_poisons_prev_alone_and_list_del_both() -> None:
    world = World()
    _, first, second, third = neighbours(world)

    def body() -> None:
        list_del_rcu(first.node)
        list_del(second.node)

    world.run(body)
    assert (first.node.next, first.node.prev) == (second.node, None)
    assert (second.node.next, second.node.prev) == (None, None)
    assert third.node.next is not None


def test_deleting_a_node_twice_is_a_bug() -> None:
    world = World()
    _, first, *_ = neighbours(world)

    def body() -> None:
        list_del_rcu(first.node)
        list_del_rcu(first.node)

    world.run(body)
    assert world.bugs() == ["list_del of a poisoned node"]
    assert [event[4] for event in world.of(ev.LIST_CORRUPT)] == [first.id]


def test_adding_to_a_head_that_nobody_initialised_is_a_bug() -> None:
    """As it is when the two arguments of list_add_tail are taken for one another."""
    world = World()
    head, *_ = neighbours(world)
    new = world.thing()
    world.run(lambda: list_add_tail(head, new.node))
    assert world.bugs() == ["list_add to an uninitialised node"]


def test_a_walk_over_a_node_that_list_del_has_poisoned_is_a_bug() -> None:
    world = World(Run(1, until(ev.READ_ONCE, "node.next")), Run(2), Run(1))
    head, first, *_ = neighbours(world)
    world.run(lambda: list(list_for_each_entry_rcu(head)).clear(), lambda: list_del(first.node))
    assert world.bugs() == ["walk over a poisoned head"]


def test_the_safe_walk_lets_the_entry_just_yielded_be_deleted_and_freed() -> None:
    world = World()
    head, *things = neighbours(world)

    def body() -> None:
        for thing in list_for_each_entry_safe(head):
            assert isinstance(thing, Thing)
            list_del(thing.node)
            thing.kfree()

    world.run(body)
    assert all(thing.is_dead for thing in things)
    assert owners(head) == []
    assert world.of(ev.DEAD_ACCESS) == []


def test_following_the_pointer_of_a_freed_entry_is_a_dead_access() -> None:
    world = World()
    head, first, *_ = neighbours(world)

    def body() -> None:
        for thing in list_for_each_entry_rcu(head):
            if thing is first:
                first.kfree()

    world.run(body)
    assert [(event[4], event[5]) for event in world.of(ev.DEAD_ACCESS)] == [(first.id, "node.next")]


def test_list_add_puts_the_new_one_first() -> None:
    world = World()
    first, new = world.thing(), world.thing()
    head = world.list_of(first)
    world.run(lambda: list_add(new.node, head))
    assert owners(head) == [new.id, first.id]
    assert is_sound(head)
    (added,) = world.of(ev.LIST_ADD)
    assert (added[4], added[6]) == (new.id, head.owner.id)


def test_list_del_init_leaves_a_node_that_can_be_added_again_and_deleted_twice() -> None:
    world = World()
    first, second = world.thing(), world.thing()
    head = world.list_of(first, second)

    def body() -> None:
        list_del_init(first.node)
        list_del_init(first.node)
        list_add_tail(first.node, head)

    world.run(body)
    assert owners(head) == [second.id, first.id]
    assert not world.of(ev.LIST_CORRUPT)


def test_list_move_tail_and_first_entry_go_round_a_list() -> None:
    world = World()
    first, second = world.thing(), world.thing()
    head = world.list_of(first, second)
    seen: list[int] = []

    def body() -> None:
        for _ in range(3):
            seen.append(list_first_entry(head).id)
            list_move_tail(first.node if seen[-1] == first.id else second.node, head)

    world.run(body)
    assert seen == [first.id, second.id, first.id]
    assert is_sound(head)


def test_list_replace_init_moves_all_to_a_new_head_and_forgets_what_that_had() -> None:
    world = World()
    first, second, forgotten = world.thing(), world.thing(), world.thing()
    old, new = world.list_of(first, second), world.list_of(forgotten)
    empty: list[bool] = []

    def body() -> None:
        list_replace_init(old, new)
        empty.extend((list_empty(old), list_empty(new)))
        list_replace_init(old, new)
        empty.append(list_empty(new))

    world.run(body)
    assert empty == [True, False, True], "an empty one leaves an empty one"
    assert is_sound(old)


def test_list_replace_init_writes_the_new_head_with_plain_stores() -> None:
    world = World()
    first = world.thing()
    old, new = world.list_of(first), world.list_of()
    world.run(lambda: list_replace_init(old, new))
    assert owners(new) == [first.id]
    assert is_sound(new)
    stores = [event[0] for event in world.events if event[4] == new.owner.id and event[5] == "head.next"]
    assert stores == [ev.WRITE]
